import { model } from './model';
import { panel } from './panel';
import { progress } from './progress';
import { running } from './running';
import { status } from './status';
import { warnings } from './warnings';

export default [progress, model, status, panel, running, warnings];
