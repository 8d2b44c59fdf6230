/**
 * What comes before the binlog is read: who the server is, whether it is set as it must be, which run of it this is, whether
 * capture can resume there, and, where it cannot, the beginning of an epoch. Over one connection, closed afterwards.
 */
import { throwFaults } from '../../shared/process/findings.ts';
import { readCatalogue } from '../source/catalogue.ts';
import type { Catalogue } from '../source/catalogue.ts';
import { adoptRules, beginEpoch } from './new-epoch.ts';
import type { EpochOptions } from './new-epoch.ts';
import { checkRights, checkSettings } from '../source/preflight.ts';
import { resumePoint } from './resume-point.ts';
import { ServerCharsets } from '../values/server-charsets.ts';
import type { SourceConnection, SourceIdentity } from '../source/connection.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { throwSettingFaults } from '../source/unlogged-writes.ts';

/** Tables that are not captured and are asked about all the same. */
const MOST_BESIDES = 1_000;

export interface PreparationOptions extends EpochOptions {
  readonly connect: () => Promise<SourceConnection>;
}

export interface Prepared {
  readonly identity: SourceIdentity;
  readonly catalogue: Catalogue;
  readonly charsets: ServerCharsets;
  /** An epoch has begun. */
  readonly begun: boolean;
}

export class Preparation {
  readonly #o: PreparationOptions;
  readonly #besides = new Map<string, TableName>();
  #identity: SourceIdentity | null = null;
  #settingsRightAt: string | null = null;
  #retentionSeconds: number | null = null;
  #charsets: { readonly version: string; readonly sets: ServerCharsets } | null = null;

  constructor(options: PreparationOptions) {
    this.#o = options;
  }

  /** Who answered last; null: nobody yet. */
  get identity(): SourceIdentity | null {
    return this.#identity;
  }

  /** When the settings were last seen to be right, by the server's clock, ISO; null: not by this process. */
  get settingsRightAt(): string | null {
    return this.#settingsRightAt;
  }

  /** How long the server keeps its binlogs; null: without a limit of time, or not known yet. */
  get retentionSeconds(): number | null {
    return this.#retentionSeconds;
  }

  /** From now on the catalogue is asked about these tables as well, though they are not captured. */
  askAbout(tables: readonly TableName[]): void {
    for (const table of tables) this.#besides.set(tableKey(table), table);
    // The oldest go: whoever meets them again asks again.
    for (const key of [...this.#besides.keys()].slice(0, -MOST_BESIDES)) this.#besides.delete(key);
  }

  /**
   * Whether all that is committed gets into the binlog as capture needs it. An administrator may change that at any time.
   * @throws TributaryError SOURCE_SETTING, an UnloggedWrites where rows may have bypassed the binlog
   */
  async checkSettings(source: SourceConnection): Promise<void> {
    const at = await source.time();
    throwSettingFaults(await checkSettings(source, await source.identity()));
    this.#settingsRightAt = at;
    this.#retentionSeconds = await source.binlogRetentionSeconds();
  }

  /**
   * @param newEpoch why a new epoch must begin; null: only if capture cannot resume
   * @param unbroken this process has begun the epoch and was not parted from the server since
   * @throws UnloggedWrites, and what else keeps capture from beginning
   */
  async prepare(newEpoch: string | null, unbroken: boolean): Promise<Prepared> {
    const { spool, tableFilter, logger } = this.#o;
    const source = await this.#o.connect();
    try {
      const identity = await source.identity();
      this.#identity = identity;
      await this.checkSettings(source);
      throwFaults(await checkRights(source, identity, tableFilter));
      const position = spool.position();
      let reason =
        newEpoch ?? (position === null ? 'a new spool' : spool.isBegun() ? null : 'an epoch without a beginning');
      if (position !== null && reason === null) {
        const resume = await resumePoint(source, identity, position, unbroken);
        if ('lost' in resume) reason = resume.lost;
        else {
          spool.discardOpenGroup();
          if (resume.at !== position) spool.savePosition(resume.at);
          await adoptRules(this.#o, source, resume.at);
        }
      }
      if (reason !== null) await beginEpoch(this.#o, source, identity, { reason, asked: newEpoch !== null });
      const run = await source.run();
      if (spool.serverSeen.see(run, reason !== null) && reason === null) {
        logger.warn({ run }, 'the branch database was started since it was last seen: the head office is to compare');
      }
      const catalogue = await readCatalogue(source, identity, tableFilter, [...this.#besides.values()]);
      const charsets = await this.#loadCharsets(source, identity, catalogue.tables);
      return { identity, catalogue, charsets, begun: reason !== null };
    } finally {
      source.destroy();
    }
  }

  /** The tables of all character sets that the branch's tables use, and of those that the stream has met. */
  async #loadCharsets(
    source: SourceConnection,
    identity: SourceIdentity,
    tables: readonly TableName[],
  ): Promise<ServerCharsets> {
    const version = `${identity.server} ${identity.version}`;
    if (this.#charsets?.version !== version) {
      this.#charsets = { version, sets: await ServerCharsets.read(source, identity.flavor === 'mariadb') };
    }
    const { sets } = this.#charsets;
    await sets.loadUsed(source, tables);
    return sets;
  }
}
