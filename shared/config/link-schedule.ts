/**
 * When the link may be used: windows on the wall clock of a branch. Pure: callers pass times as milliseconds since 1970.
 *
 * Windows are wall-clock times in the branch's time zone, because people say "before the shop opens". When clocks go
 * forward, a window inside the missing hour does not happen that day. When they go back, one inside the repeated hour
 * happens twice. A window past midnight ("22:00-02:00") belongs to the day on which it begins.
 */
import { TributaryError } from '../errors.ts';

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;
const DAY_MINUTES = 24 * 60;
const WEEK_MINUTES = 7 * DAY_MINUTES;
const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
/** Every weekly schedule changes within a week. One more day allows for clock changes. */
const SEARCH_HOURS = 8 * 24;

/** One opening of the link, repeated on its days. */
export interface LinkWindow {
  readonly text: string;
  /** Days of the week on which it begins, 0 = Sunday. */
  readonly days: readonly number[];
  /** Minutes since midnight, 0 … 1439. */
  readonly from: number;
  /** Minutes since the same midnight, from + 1 … from + 1440; above 1440 it ends on the next day. */
  readonly to: number;
}

/** When the link may be used: each branch has its own. */
export interface LinkSchedule {
  /** None: always open. */
  readonly windows: readonly LinkWindow[];
  /** IANA name, e.g. Europe/Paris. */
  readonly timeZone: string;
}

export interface LinkState {
  readonly open: boolean;
  /** When `open` changes next, on a full minute; null: never. */
  readonly changesAt: number | null;
}

/** Reads "08:00-09:30", "mon-fri 20:00-20:30", "sat,sun 22:00-02:00". @throws TributaryError CONFIG_INVALID */
export function parseWindow(text: string): LinkWindow {
  const match = /^(?:([a-z,-]+)\s+)?(\d\d):(\d\d)-(\d\d):(\d\d)$/.exec(text.trim().toLowerCase());
  if (match === null) throw wrongWindow(text, 'it does not have the form "mon-fri 20:00-20:30"');
  const [, days, fromHour, fromMinute, toHour, toMinute] = match;
  const from = Number(fromHour) * 60 + Number(fromMinute);
  const end = Number(toHour) * 60 + Number(toMinute);
  if (Number(fromMinute) > 59 || Number(toMinute) > 59) throw wrongWindow(text, 'an hour has 60 minutes');
  if (from >= DAY_MINUTES || end > DAY_MINUTES) throw wrongWindow(text, 'a day ends at 24:00');
  if (from === end) throw wrongWindow(text, 'it begins when it ends; the whole day is 00:00-24:00');
  return {
    text,
    days: days === undefined ? [0, 1, 2, 3, 4, 5, 6] : parseDays(days, text),
    from,
    to: end > from ? end : end + DAY_MINUTES,
  };
}

/** @throws TributaryError CONFIG_INVALID when there is no such time zone */
export function checkTimeZone(timeZone: string): void {
  // Looking into the list is cheap, while a formatter takes 7 MB. But the list lacks some names, such as Europe/Kyiv.
  if (!Intl.supportedValuesOf('timeZone').includes(timeZone)) clock(timeZone);
}

/** Whether the link is open, and until when. */
export function linkState(schedule: LinkSchedule, at: number): LinkState {
  if (schedule.windows.length === 0) return { open: true, changesAt: null };
  const openAt = openMinutes(schedule.windows);
  const local = (time: number): number => minuteOfWeek(schedule.timeZone, time);
  const open = openAt(local(at));
  let segment = Math.floor(at / MINUTE_MS) * MINUTE_MS + MINUTE_MS;
  for (let hour = 0; hour < SEARCH_HOURS; hour += 1) {
    const first = local(segment);
    // Where the clock does not change during the hour, one look is enough for all sixty minutes.
    const straight = local(segment + HOUR_MS) === (first + 60) % WEEK_MINUTES;
    for (let minute = 0; minute < 60; minute += 1) {
      const time = segment + minute * MINUTE_MS;
      const wall = straight ? (first + minute) % WEEK_MINUTES : local(time);
      if (openAt(wall) !== open) return { open, changesAt: time };
    }
    segment += HOUR_MS;
  }
  return { open, changesAt: null };
}

function parseDays(text: string, window: string): number[] {
  const days = new Set<number>();
  for (const part of text.split(',')) {
    const [first = '', last = first, ...rest] = part.split('-');
    const from = DAYS.findIndex(day => day === first);
    const to = DAYS.findIndex(day => day === last);
    if (from < 0 || to < 0 || rest.length > 0) throw wrongWindow(window, `"${part}" is not a day or a span of days`);
    for (let day = from; ; day = (day + 1) % 7) {
      days.add(day);
      if (day === to) break;
    }
  }
  return [...days].sort((a, b) => a - b);
}

function wrongWindow(text: string, rule: string): TributaryError {
  return new TributaryError('CONFIG_INVALID', `link.windows: "${text}": ${rule}.`, {
    hint: 'For example "08:00-09:30", "mon-fri 20:00-20:30" or "sat,sun 22:00-02:00".',
  });
}

function openMinutes(windows: readonly LinkWindow[]): (minuteOfWeek: number) => boolean {
  return minute =>
    windows.some(window =>
      window.days.some(day => {
        const since = (minute - day * DAY_MINUTES + WEEK_MINUTES) % WEEK_MINUTES;
        return since >= window.from && since < window.to;
      }),
    );
}

/** Minutes since Sunday 00:00 on the wall clock of the zone. */
function minuteOfWeek(timeZone: string, at: number): number {
  const parts = new Map(
    clock(timeZone)
      .formatToParts(at)
      .map(part => [part.type, part.value]),
  );
  const day = DAYS.findIndex(name => name === parts.get('weekday')?.toLowerCase());
  return day * DAY_MINUTES + Number(parts.get('hour')) * 60 + Number(parts.get('minute'));
}

/** One formatter for each zone: making one costs more than a thousand uses. Bounded, because branches name the zones. */
const MAX_CLOCKS = 100;
const clocks = new Map<string, Intl.DateTimeFormat>();

function clock(timeZone: string): Intl.DateTimeFormat {
  const known = clocks.get(timeZone);
  if (known !== undefined) return known;
  try {
    const made = new Intl.DateTimeFormat('en-US', {
      timeZone,
      hourCycle: 'h23',
      weekday: 'short',
      hour: '2-digit',
      minute: '2-digit',
    });
    if (clocks.size >= MAX_CLOCKS) clocks.clear();
    clocks.set(timeZone, made);
    return made;
  } catch (error) {
    throw new TributaryError('CONFIG_INVALID', `link.timeZone: there is no time zone "${timeZone}".`, {
      hint: 'Use an IANA name, for example Europe/Paris.',
      cause: error,
    });
  }
}
