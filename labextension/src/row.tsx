import type { TranslationBundle } from '@jupyterlab/translation';
import {
  closeIcon,
  refreshIcon,
  stopIcon,
  type LabIcon
} from '@jupyterlab/ui-components';
import * as React from 'react';

import type { Act, Verb } from './actions';
import {
  activity,
  bytes,
  bytesOf,
  kernelName,
  type IRow,
  type Sort
} from './format';
import type { IKernel } from './tokens';

/** What all parts of the panel need to show a kernel. */
export interface IContext {
  trans: TranslationBundle;
  act: Act;
  sort: Sort;
  kernels: readonly IKernel[];
  /** From when on a device counts as nearly full, in percent; 0 for never. */
  warnPercent: number;
}

const HUES = 6;

/** The colour of a kernel, the same in every list and bar. */
export function hue(kernelId: string, kernels: readonly IKernel[]): number {
  return (
    Math.max(
      0,
      kernels.findIndex(kernel => kernel.kernel_id === kernelId)
    ) % HUES
  );
}

/** One kernel: what it holds, what it does, and what one can do with it. */
export function Row(
  props: { row: IRow; onDevice?: boolean } & IContext
): React.ReactElement {
  const { row, onDevice, act, kernels, trans } = props;
  const { kernel } = row;
  const name = kernelName(kernel, trans);
  const memory = kernel.memory;
  const limit = memory?.limit_bytes ?? null;
  const main = !memory
    ? ''
    : limit === null
      ? trans.__('%1 RAM', bytes(memory.used_bytes))
      : trans.__('%1 RAM', bytesOf(memory.used_bytes, limit, trans));
  const button = (
    verb: Verb,
    icon: LabIcon,
    label: string
  ): React.ReactElement => (
    <button
      type="button"
      className="tfgpu-Row-button"
      title={label}
      aria-label={trans.__('%1: %2', label, name)}
      onClick={() => void act(verb, kernel)}
    >
      <icon.react tag="span" />
    </button>
  );
  return (
    <li className="tfgpu-Row" data-kernel={kernel.kernel_id}>
      <span className="tfgpu-Row-name">
        {onDevice && (
          <span
            className="tfgpu-Swatch"
            data-kind="kernel"
            data-hue={hue(kernel.kernel_id, kernels)}
            aria-hidden="true"
          />
        )}
        {kernel.path ? (
          <button
            type="button"
            className="tfgpu-Row-link"
            title={kernel.path}
            onClick={() => void act('open', kernel)}
          >
            {name}
          </button>
        ) : (
          <span className="tfgpu-Row-link">{name}</span>
        )}
      </span>
      <span className="tfgpu-Row-memory">
        {onDevice ? bytes(row.used_bytes) : ''}
      </span>
      <span className="tfgpu-Row-activity">
        <span data-state={kernel.state}>{activity(kernel, trans)}</span>
        {main && (
          <span
            className="tfgpu-Row-main"
            title={
              limit === null
                ? trans.__('Main memory of its container, which has no limit')
                : trans.__(
                    'Main memory of its container, and the limit at which it is ended'
                  )
            }
          >
            {main}
            {memory && limit !== null && (
              <span
                className="tfgpu-Limit"
                data-full={memory.used_bytes > 0.9 * limit}
                aria-hidden="true"
              >
                <span
                  style={{
                    width: `${Math.min(100, (100 * memory.used_bytes) / limit)}%`
                  }}
                />
              </span>
            )}
          </span>
        )}
      </span>
      <span
        className="tfgpu-Row-buttons"
        role="group"
        aria-label={trans.__('Kernel of %1', name)}
      >
        {button('interrupt', stopIcon, trans.__('Interrupt'))}
        {button('restart', refreshIcon, trans.__('Restart'))}
        {button('shutdown', closeIcon, trans.__('Shut Down'))}
      </span>
    </li>
  );
}
