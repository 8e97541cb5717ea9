import type { CodeCell } from '@jupyterlab/cells';
import type { Notebook } from '@jupyterlab/notebook';

import type { IKept } from './records';

/**
 * Find the cells that former requests came from, each by its id, or by its code where no cell has that id: below nbformat
 * 4.5 a notebook has no ids, and each page makes up new ones.
 */
export function places(
  notebook: Notebook,
  requests: readonly IKept[]
): Map<IKept, CodeCell> {
  const cells = notebook.widgets.filter(
    (cell): cell is CodeCell => cell.model.type === 'code'
  );
  const byId = new Map(cells.map(cell => [cell.model.id, cell]));
  const free = new Set(cells);
  for (const { cell_id } of requests) {
    const named = byId.get(cell_id);
    if (named) {
      free.delete(named);
    }
  }
  const found = new Map<IKept, CodeCell>();
  for (const request of requests) {
    const cell = byId.get(request.cell_id) ?? likeliest(free, request.code);
    if (cell) {
      byId.set(request.cell_id, cell); // a cell that was run twice is one
      free.delete(cell);
      found.set(request, cell);
    }
  }
  return found;
}

/** Of several cells with the same code, the first without a number: what runs is saved so. */
function likeliest(cells: Set<CodeCell>, code: string): CodeCell | undefined {
  const same = [...cells].filter(
    cell => fingerprint(cell.model.sharedModel.getSource()) === code
  );
  return same.find(cell => cell.model.executionCount === null) ?? same[0];
}

/** What tells one cell's code from another's, as tfgpu_kernel/asked.py has it: CRC-32 and length. */
function fingerprint(code: string): string {
  const bytes = new TextEncoder().encode(code);
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) {
      crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    }
  }
  return `${(~crc >>> 0).toString(16).padStart(8, '0')}-${bytes.length}`;
}
