import './index.css';
import './gpus.css';
