import type { IHistory, ISeries } from './tokens';

/** How far back a history goes. */
export const HISTORY_SECONDS = 600;

/** The history with what is new appended, and what is too old left out. */
export function joined(old: IHistory, added: IHistory): IHistory {
  const last = old.times[old.times.length - 1] ?? 0;
  // a server that was started anew, or whose clock was set back, begins again
  const kept =
    (added.times[0] ?? Infinity) < last ? { times: [], gpus: {} } : old;
  const times = [...kept.times, ...added.times];
  const from = (times[times.length - 1] ?? 0) - HISTORY_SECONDS;
  const first = times.findIndex(time => time >= from);
  const column = (
    uuid: string,
    pick: (series: ISeries) => (number | null)[]
  ): (number | null)[] => {
    const part = (history: IHistory): (number | null)[] => {
      const series = history.gpus[uuid];
      return series ? pick(series) : history.times.map(() => null);
    };
    return [...part(kept), ...part(added)].slice(first);
  };
  const uuids = new Set([
    ...Object.keys(kept.gpus),
    ...Object.keys(added.gpus)
  ]);
  return {
    times: times.slice(first),
    gpus: Object.fromEntries(
      [...uuids].map(uuid => [
        uuid,
        {
          use_percent: column(uuid, series => series.use_percent),
          used_bytes: column(uuid, series => series.used_bytes)
        }
      ])
    )
  };
}

/** One run of known values, as corner points in a box of 1 by 1 with the origin at the top left. */
export type Run = readonly (readonly [x: number, y: number])[];

/** The runs of a column between its gaps; `most` is the value at the top. Now is at the right. */
export function runs(
  times: readonly number[],
  values: readonly (number | null)[],
  most: number,
  now: number,
  seconds = HISTORY_SECONDS
): Run[] {
  const found: [number, number][][] = [];
  let run: [number, number][] = [];
  times.forEach((time, place) => {
    const value = values[place];
    if (value === null || value === undefined) {
      run = [];
      return;
    }
    if (run.length === 0) {
      found.push(run);
    }
    const x = 1 - (now - time) / seconds;
    const y = 1 - Math.min(1, Math.max(0, value / most));
    run.push([Math.min(1, Math.max(0, x)), y]);
  });
  return found;
}

/** The path of a line through runs. */
export function line(through: Run[], width: number, height: number): string {
  return through
    .map(
      run => `M${run.map(([x, y]) => point(x * width, y * height)).join('L')}`
    )
    .join('');
}

/** The path of the area below runs. */
export function area(below: Run[], width: number, height: number): string {
  return below
    .map(run => {
      const left = (run[0]?.[0] ?? 0) * width;
      const right = (run[run.length - 1]?.[0] ?? 0) * width;
      const top = run.map(([x, y]) => point(x * width, y * height)).join('L');
      return `M${point(left, height)}L${top}L${point(right, height)}Z`;
    })
    .join('');
}

function point(x: number, y: number): string {
  return `${x.toFixed(1)},${y.toFixed(1)}`;
}
