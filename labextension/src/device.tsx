import * as React from 'react';

import { Chart } from './chart';
import {
  bytes,
  bytesOf,
  fullness,
  modelName,
  percent,
  rowsOn,
  sorted,
  usableBytes
} from './format';
import { Row, hue, type IContext } from './row';
import type { IDeviceMemory, IGpu, IHistory, IHolders } from './tokens';

/** One GPU: name, use, ten minutes of history, memory, and who holds it. */
export function GpuCard(
  props: { gpu: IGpu; history: IHistory; now: number } & IContext
): React.ReactElement {
  const { gpu, history, now, trans } = props;
  const series = history.gpus[gpu.uuid] ?? { use_percent: [], used_bytes: [] };
  const known = series.use_percent.filter(value => value !== null);
  const label = trans.__(
    'Use over the last ten minutes: now %1, at most %2',
    percent(gpu.use_percent),
    percent(known.length ? Math.max(...known) : null)
  );
  return (
    <section
      className="tfgpu-Gpu"
      aria-label={trans.__('GPU %1 %2', gpu.index, gpu.name)}
    >
      <header className="tfgpu-Gpu-head">
        <span className="tfgpu-Gpu-index">{gpu.index}</span>
        <h3 className="tfgpu-Gpu-name" title={`${gpu.name}\n${gpu.uuid}`}>
          {modelName(gpu.name)}
        </h3>
        <span
          className="tfgpu-Gpu-use"
          title={trans.__('Share of time in which something ran on it')}
        >
          {percent(gpu.use_percent)}
        </span>
      </header>
      <Chart
        times={history.times}
        use={series.use_percent}
        memory={series.used_bytes}
        mostMemory={gpu.memory?.total_bytes}
        now={now}
        width={300}
        height={40}
        label={label}
      />
      <Device {...props} device={gpu} title={trans.__('GPU %1', gpu.index)} />
      {gpu.mig.map(mig => (
        <section
          key={mig.uuid}
          className="tfgpu-Mig"
          aria-label={mig.name ?? mig.uuid}
        >
          <h4 className="tfgpu-Mig-name" title={mig.uuid}>
            {mig.name ?? trans.__('MIG device')}
          </h4>
          <Device {...props} device={mig} title={mig.name ?? mig.uuid} />
        </section>
      ))}
    </section>
  );
}

/** A device's memory as a bar and in words, and the list of its holders. */
function Device(
  props: {
    device: {
      uuid: string;
      memory: IDeviceMemory | null;
      holders: IHolders | null;
    };
    title: string;
  } & IContext
): React.ReactElement {
  const { device, title, kernels, sort, trans } = props;
  const { memory, holders } = device;
  const rows = sorted(rowsOn(device, kernels), sort);
  return (
    <>
      {memory && <MemoryBar {...props} memory={memory} holders={holders} />}
      {rows.length > 0 && (
        <ul
          className="tfgpu-Rows"
          aria-label={trans.__('Notebooks on %1', title)}
        >
          {rows.map(row => (
            <Row key={row.kernel.kernel_id} row={row} onDevice {...props} />
          ))}
        </ul>
      )}
      <dl className="tfgpu-Rest">
        {holders && holders.warm.processes > 0 && (
          <Rest
            kind="warm"
            name={trans._n(
              '%1 warm kernel',
              '%1 warm kernels',
              holders.warm.processes
            )}
            value={bytes(holders.warm.used_bytes)}
          />
        )}
        {holders && holders.others.processes > 0 && (
          <Rest
            kind="others"
            name={trans._n(
              '%1 other process',
              '%1 other processes',
              holders.others.processes
            )}
            value={bytes(holders.others.used_bytes)}
          />
        )}
        {memory &&
          memory.reserved_bytes !== null &&
          memory.reserved_bytes > 0 && (
            <Rest
              kind="reserved"
              name={trans.__('Driver’s own')}
              value={bytes(memory.reserved_bytes)}
            />
          )}
      </dl>
    </>
  );
}

/** One line of what is no notebook's. */
function Rest(props: {
  kind: string;
  name: string;
  value: string;
}): React.ReactElement {
  return (
    <div className="tfgpu-Rest-line">
      <dt>
        <span
          className="tfgpu-Swatch"
          data-kind={props.kind}
          aria-hidden="true"
        />
        {props.name}
      </dt>
      <dd>{props.value}</dd>
    </div>
  );
}

/** Who holds how much of a device, to scale. */
function MemoryBar(
  props: { memory: IDeviceMemory; holders: IHolders | null } & IContext
): React.ReactElement {
  const { memory, holders, kernels, trans, warnPercent } = props;
  const parts: { key: string; bytes: number; kind: string; hue?: number }[] =
    [];
  let told = 0;
  for (const share of holders?.kernels ?? []) {
    parts.push({
      key: share.kernel_id,
      bytes: share.used_bytes ?? 0,
      kind: 'kernel',
      hue: hue(share.kernel_id, kernels)
    });
    told += share.used_bytes ?? 0;
  }
  const warm = holders?.warm.used_bytes ?? 0;
  parts.push({ key: 'warm', bytes: warm, kind: 'warm' });
  // what is used and nobody's, such as a process that the driver does not name, stands with the others
  parts.push({
    key: 'others',
    bytes: Math.max(0, memory.used_bytes - told - warm),
    kind: 'others'
  });
  const reserved = memory.reserved_bytes ?? 0;
  const share = (part: number): string =>
    `${(100 * part) / memory.total_bytes}%`;
  const full = warnPercent > 0 && fullness(memory) * 100 >= warnPercent;
  return (
    <div className="tfgpu-Memory" data-full={full}>
      <div className="tfgpu-Memory-bar" aria-hidden="true">
        {parts
          .filter(part => part.bytes > 0)
          .map(part => (
            <span
              key={part.key}
              data-kind={part.kind}
              data-hue={part.hue}
              style={{ width: share(part.bytes) }}
            />
          ))}
        <span
          className="tfgpu-Memory-reserved"
          data-kind="reserved"
          style={{ width: share(reserved) }}
        />
      </div>
      <div className="tfgpu-Memory-words">
        <span>{bytesOf(memory.used_bytes, usableBytes(memory), trans)}</span>
        <span>
          {full
            ? trans.__('nearly full · %1 free', bytes(memory.free_bytes))
            : trans.__('%1 free', bytes(memory.free_bytes))}
        </span>
      </div>
    </div>
  );
}
