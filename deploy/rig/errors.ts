/**
 * What can go wrong when servers are started on this machine.
 *
 * The code names the kind of fault for programs; the hint tells people what to do. Nothing matches on message text.
 */

export type LocalServerCode =
  /** Nothing suitable in the environment, on PATH or in Debian's archive. */
  | 'PROGRAM_NOT_FOUND'
  /** An environment variable names a program that is not there or does not suit. */
  | 'PROGRAM_UNSUITABLE'
  /** apt cannot resolve the packages in a suite. The next suite may work. */
  | 'PACKAGES_UNRESOLVED'
  /** Download, unpacking or patching failed. */
  | 'INSTALL_FAILED'
  /** A server ended, or did not answer in time, while it was being started. */
  | 'SERVER_NOT_STARTED'
  /** The caller asked for something that this state does not allow, such as wiping a running broker. */
  | 'SERVER_STATE'
  /** TRIBUTARY_LOCAL_SERVERS is not what it should be. */
  | 'BAD_ENVIRONMENT';

export class LocalServerError extends Error {
  override readonly name = 'LocalServerError';
  readonly code: LocalServerCode;
  /** What to do about it, one sentence for a person. */
  readonly hint: string;

  constructor(code: LocalServerCode, message: string, hint: string, cause?: unknown) {
    super(hint === '' ? message : `${message}\n  ${hint}`, cause === undefined ? undefined : { cause });
    this.code = code;
    this.hint = hint;
  }
}

/** Receives one line of progress, without a line end. */
export type Report = (line: string) => void;
