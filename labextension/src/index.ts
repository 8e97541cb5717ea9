import { advice } from './advice';
import { banner } from './banner';
import { container } from './container';
import { doctor } from './doctor';
import { engine } from './engine';
import { idle } from './idle';
import { kept } from './kept';
import { launches } from './launches';
import { model } from './model';
import { move } from './move';
import { notices } from './notices';
import { panel } from './panel';
import { running } from './running';
import { sharing } from './sharing';
import { status } from './status';
import { warnings } from './warnings';

export default [
  advice,
  kept,
  launches,
  container,
  doctor,
  engine,
  idle,
  banner,
  notices,
  model,
  status,
  panel,
  running,
  move,
  warnings,
  sharing
];
