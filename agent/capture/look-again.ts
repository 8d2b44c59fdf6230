import { TributaryError } from '../../shared/errors.ts';

/**
 * The stream has met something that the server must be asked about first. Capture resumes at once from the last durable
 * position, and asks before it reads on: the same place does not bring the same question again.
 */
export class LookAgain extends TributaryError {
  constructor(message: string) {
    super('STREAM_ENDED', message);
  }
}
