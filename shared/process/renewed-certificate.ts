/**
 * Takes the page's certificate into use again when its files have changed, so that a renewal needs no restart. Files that
 * do not fit each other, as between two steps of a renewal, change nothing: the certificate before stays in use.
 */
import { createHash } from 'node:crypto';
import type { Server as SecureServer } from 'node:https';
import { notePageCertificate } from '../config/certificates.ts';
import type { HttpTls } from '../config/http-settings.ts';
import { describeError } from '../errors.ts';
import type { Logger } from './logging.ts';

/** How often the files are read. */
export const LOOK_EVERY_MS = 60_000;

/** What node:tls takes. */
export function secureOptions(tls: HttpTls) {
  return { cert: tls.cert(), key: tls.key.reveal(), minVersion: 'TLSv1.2' } as const;
}

/** @returns a function that ends it */
export function renewCertificate(server: SecureServer, tls: HttpTls, logger: Logger, everyMs = LOOK_EVERY_MS) {
  notePageCertificate(tls.cert());
  let known = fingerprint(secureOptions(tls));
  const timer = setInterval(() => {
    try {
      const options = secureOptions(tls);
      const found = fingerprint(options);
      if (found === known) return;
      known = found;
      server.setSecureContext(options);
      notePageCertificate(options.cert);
      logger.info({}, 'The certificate of the page was renewed.');
    } catch (error) {
      logger.error(
        { hint: 'Correct the files of http.tls.cert and http.tls.key. They are read again within a minute.' },
        `The renewed certificate of the page cannot be used, and the one before stays: ${describeError(error)}.`,
      );
    }
  }, everyMs).unref();
  return (): void => clearInterval(timer);
}

function fingerprint({ cert, key }: { readonly cert: string; readonly key: string }): string {
  return createHash('sha256').update(cert).update('\0').update(key).digest('hex');
}
