import './index.css';
import './gpus.css';
import './launch.css';
import './sharing.css';
import './doctor.css';
