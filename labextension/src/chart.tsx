import * as React from 'react';

import { area, line, runs } from './history';

/** What a chart shows: use as a line, memory as an area below it. */
export interface IChartProps {
  times: readonly number[];
  use: readonly (number | null)[];
  memory?: readonly (number | null)[];
  /** The memory at the top of the chart. */
  mostMemory?: number;
  now: number;
  width: number;
  height: number;
  /** What a screen reader says; a chart without is decoration beside the same in words. */
  label?: string;
}

/** An inline SVG of the last ten minutes; it stretches to whatever place it gets. */
export function Chart(props: IChartProps): React.ReactElement {
  const { times, now, width, height } = props;
  const use = runs(times, props.use, 100, now);
  const memory = runs(times, props.memory ?? [], props.mostMemory ?? 1, now);
  const described = props.label
    ? { role: 'img', 'aria-label': props.label }
    : { 'aria-hidden': true };
  return (
    <svg
      className="tfgpu-Chart"
      viewBox={`0 0 ${width} ${height}`}
      preserveAspectRatio="none"
      {...described}
    >
      <path className="tfgpu-Chart-memory" d={area(memory, width, height)} />
      <path className="tfgpu-Chart-useArea" d={area(use, width, height)} />
      <path
        className="tfgpu-Chart-use"
        d={line(use, width, height)}
        vectorEffect="non-scaling-stroke"
      />
    </svg>
  );
}

/** The mean over devices at each time, of the values that are known. */
export function meanOf(
  columns: readonly (readonly (number | null)[])[]
): (number | null)[] {
  const longest = Math.max(0, ...columns.map(column => column.length));
  return Array.from({ length: longest }, (_, place) => {
    const known = columns
      .map(column => column[place] ?? null)
      .filter(value => value !== null);
    return known.length
      ? known.reduce((sum, value) => sum + value, 0) / known.length
      : null;
  });
}
