import type { IPoll } from '@lumino/polling';

/** What `anew` needs of a Poll. */
interface IRefreshable extends Pick<
  IPoll<unknown, unknown, 'standby'>,
  'state'
> {
  readonly tick: Promise<unknown>;
  refresh(): Promise<void>;
}

/**
 * Asks anew, and waits for the answer.
 *
 * An answer that is under way may be older than what it is asked for; a Poll
 * drops a refresh that comes meanwhile, and what happened would be seen only
 * after another interval.
 */
export async function anew(poll: IRefreshable): Promise<void> {
  if (poll.state.phase === 'refreshed') {
    await poll.tick;
  }
  await poll.refresh();
  await poll.tick;
}
