import type { JupyterFrontEndPlugin } from '@jupyterlab/application';
import type { CodeCell } from '@jupyterlab/cells';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import type { Kernel, KernelMessage } from '@jupyterlab/services';
import {
  ITranslator,
  nullTranslator,
  type TranslationBundle
} from '@jupyterlab/translation';

import { places } from './place';
import type { IKeptMessage } from './records';
import { kept as ask, tookKept } from './request';
import { tellUnplaced } from './unplaced';

const GONE: readonly Kernel.Status[] = ['restarting', 'autorestarting', 'dead'];

/**
 * A page that was left open gets on its channels what a kernel printed while no server was there. One that was loaded
 * anew doesn't know the requests of the page before it, so their output is put into its cells here, and what follows.
 */
export const kept: JupyterFrontEndPlugin<void> = {
  id: '@tfgpu/labextension:kept',
  description: 'Shows what kernels printed while no page could get it.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ITranslator],
  activate: (
    _app,
    tracker: INotebookTracker,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('tfgpu_kernel');
    tracker.widgetAdded.connect((_, panel) => void opened(panel, trans));
  }
};

/** The notebook was opened on this page: once its kernel is connected, take what there is. */
async function opened(
  panel: NotebookPanel,
  trans: TranslationBundle
): Promise<void> {
  await panel.context.ready;
  const session = panel.sessionContext;
  const connected = (): void => {
    const kernel = session.session?.kernel;
    if (!kernel || kernel.connectionStatus !== 'connected') {
      return;
    }
    session.connectionStatusChanged.disconnect(connected);
    void show(panel, kernel, trans);
  };
  session.connectionStatusChanged.connect(connected);
  connected();
}

async function show(
  panel: NotebookPanel,
  kernel: Kernel.IKernelConnection,
  trans: TranslationBundle
): Promise<void> {
  const later: IKeptMessage[] = [];
  const running = new Map<string, CodeCell>();
  const seen = new Set<string>();
  let taken = false;
  let over = false;
  const isOver = (): boolean => over;
  const hear = (_: unknown, message: KernelMessage.IIOPubMessage): void => {
    const heard = {
      id: message.header.msg_id,
      request: (message.parent_header as { msg_id?: string }).msg_id ?? '',
      type: message.header.msg_type,
      content: message.content as Record<string, unknown>
    };
    if (taken) {
      put(heard);
    } else {
      later.push(heard);
    }
  };
  const put = (message: IKeptMessage): void => {
    const cell = running.get(message.request);
    if (!cell || seen.has(message.id)) {
      return;
    }
    seen.add(message.id);
    if (!append(cell, message)) {
      running.delete(message.request);
    }
    if (taken && running.size === 0) {
      stop();
    }
  };
  const stop = (): void => {
    kernel.iopubMessage.disconnect(hear);
    kernel.statusChanged.disconnect(end);
  };
  /** A kernel that is gone ends no request of its own. */
  const end = (_: unknown, status: Kernel.Status): void => {
    if (GONE.includes(status)) {
      over = true;
      for (const cell of running.values()) {
        cell.model.executionState = 'idle';
      }
      running.clear();
      stop();
    }
  };
  kernel.iopubMessage.connect(hear);
  kernel.statusChanged.connect(end);
  const requests = await ask(kernel.id, kernel.clientId).catch(() => []);
  const found = places(panel.content, requests);
  for (const [request, cell] of found) {
    running.set(request.msg_id, cell);
    if (request.whole) {
      cell.model.outputs.clear();
    }
    let ended = request.ended;
    for (const message of request.messages) {
      seen.add(message.id);
      // A thread that the cell began may print on after its end.
      ended = !append(cell, { ...message, request: request.msg_id }) || ended;
    }
    if (ended) {
      running.delete(request.msg_id);
    }
    const runs = running.has(request.msg_id) && !isOver();
    cell.model.executionState = runs ? 'running' : 'idle';
  }
  later.forEach(put);
  taken = true;
  if (running.size === 0 || isOver()) {
    stop();
  }
  const left = requests.filter(request => !found.has(request));
  tellUnplaced(left, trans);
  if (found.size > 0) {
    // nobody else gets it now; before that, a page that is left without it leaves it to the next one
    const ids = left.map(request => request.msg_id);
    void tookKept(kernel.id, kernel.clientId, ids).catch(() => undefined);
  }
}

/** Put one message into a cell; false when it is the request's last. */
function append(cell: CodeCell, message: IKeptMessage): boolean {
  const { type, content } = message;
  const outputs = cell.model.outputs;
  switch (type) {
    case 'stream':
    case 'display_data':
    case 'execute_result':
    case 'error': {
      const output = { ...content, transient: undefined };
      outputs.add({ ...output, output_type: type });
      return true;
    }
    case 'clear_output':
      outputs.clear(content.wait === true);
      return true;
    case 'execute_input':
      cell.model.executionCount = content.execution_count as number;
      cell.model.executionState = 'running'; // which a number ends
      return true;
    case 'status':
      if (content.execution_state === 'idle') {
        cell.model.executionState = 'idle';
        return false;
      }
      return true;
    default:
      return true;
  }
}
