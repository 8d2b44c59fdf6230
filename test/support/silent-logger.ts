import { pino } from 'pino';
import type { Logger } from '../../shared/process/logging.ts';

/** A logger that writes nothing. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
