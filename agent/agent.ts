/** The agent: capture, spool and forwarder wired together, and what they report. Nothing is decided here. */
import { randomUUID } from 'node:crypto';
import { Registry } from 'prom-client';
import { TributaryError, describeError } from '../shared/errors.ts';
import type { Readiness } from '../shared/process/http.ts';
import type { Logger } from '../shared/process/logging.ts';
import { agentMetrics } from '../shared/process/metrics.ts';
import type { AgentMetrics } from '../shared/process/metrics.ts';
import { parseWindow } from '../shared/config/link-schedule.ts';
import { brokerAccess } from '../shared/config/link-settings.ts';
import { secondsLeft } from '../shared/process/recent.ts';
import { releaseHeap } from '../shared/release.ts';
import { StandstillClock } from '../shared/process/systemd.ts';
import { formatDuration } from '../shared/units.ts';
import { CaptureTally } from './capture/counters.ts';
import { Capture } from './capture/capture.ts';
import { Collapse } from './collapse/collapse.ts';
import { createTableFilter } from './source/table-filter.ts';
import { SourceConnection } from './source/connection.ts';
import type { AgentConfig } from './config.ts';
import { brokerLink } from './forward/broker-link.ts';
import { Forwarder } from './forward/forwarder.ts';
import { gatherMs } from './forward/freshness.ts';
import { AgentGauges } from './gauges.ts';
import { mysqlSslOptions } from '../shared/config/tls.ts';
import { KNOWS_SET_ASIDE, MAX_ASKER } from '../shared/protocol.ts';
import type { AskedSync } from '../shared/protocol.ts';
import { earlier } from './spool/snapshot-progress.ts';
import type { QueuedTable } from './spool/snapshot-progress.ts';
import { SelfReport, stateOf, statusError } from './self-report.ts';
import { processorMs, MemoryRelease } from './memory-release.ts';
import { WireMeter } from '../shared/broker/wire-meter.ts';
import { Spool } from './spool/spool.ts';
import { Traffic } from './forward/traffic.ts';
import type { AgentStatus, StatusError, SyncStatus } from './web/status.ts';

/** How often the rates are sampled and memory may be released. */
const SAMPLE_MS = 2_000;
const STOP_WITHIN_MS = 4_000;
/** Longer than any deadline of capture or the forwarder: whatever has not moved for so long hangs. */
const STALLED_AFTER_MS = 10 * 60_000;

export class Agent {
  readonly #registry = new Registry();
  readonly #logger: Logger;
  readonly #spool: Spool;
  readonly #capture: Capture;
  readonly #forwarder: Forwarder;
  /** null: by configuration. */
  readonly #collapse: Collapse | null;
  readonly #metrics: AgentMetrics;
  readonly #gauges: AgentGauges;
  readonly #counters: CaptureTally;
  readonly #report: SelfReport;
  readonly #meter = new WireMeter();
  readonly #traffic: Traffic;
  readonly #failed = Promise.withResolvers<TributaryError>();
  #isDiskSound = true;
  #sync: SyncStatus | null = null;
  /** That somebody asked for a sync, until the head office has heard it; and how many answers have come since. */
  #asked: { readonly sync: AskedSync; answers: number } | null = null;
  readonly #captureClock = new StandstillClock();
  readonly #forwardClock = new StandstillClock();

  /** Opens the spool. @throws TributaryError ALREADY_RUNNING, SPOOL_… */
  constructor(config: AgentConfig, version: string, logger: Logger) {
    this.#logger = logger;
    this.#metrics = agentMetrics(this.#registry, version);
    this.#gauges = new AgentGauges(this.#metrics);
    this.#counters = new CaptureTally(this.#metrics);
    const isAway = (): boolean => !this.#forwarder.status().connected;
    this.#spool = Spool.open({
      ...config.spool,
      branch: config.branch,
      now: () => Date.now(),
      mayMerge: () => config.spool.collapse && isAway(),
    });
    this.#collapse = config.spool.collapse ? new Collapse({ spool: this.#spool, isAway, log: logger }) : null;
    this.#traffic = new Traffic(config.spool.directory, this.#meter, () => Date.now());
    let head = this.#spool.totalBytes;
    this.#spool.onAppend(() => {
      const { totalBytes } = this.#spool;
      if (totalBytes > head) this.#report.spooled(totalBytes - head);
      head = totalBytes;
      this.#metrics.spoolAppended.inc();
    });
    const tableFilter = createTableFilter(
      config.tables,
      config.tables.hashKey?.reveal() ?? null,
      config.onTableTrouble,
    );
    this.#capture = new Capture({
      branch: config.branch,
      spool: this.#spool,
      tableFilter,
      connection: binlogConnection(config),
      connect: stallMs => SourceConnection.open(config.source, `tributary-agent ${config.branch}`, stallMs),
      logger,
      counters: this.#counters,
      now: () => Date.now(),
      canSend: () => this.#forwarder.idle,
      online: () => this.#forwarder.status().connected,
      gatherMs: () => (this.#isAwaited() ? 0 : gatherMs(config.link.freshnessMs)),
      packs: () => this.#forwarder.packs,
    });
    this.#forwarder = new Forwarder({
      spool: this.#spool,
      connect: brokerLink(brokerConnection(config, this.#meter)),
      policy: { ...config.link, windows: config.link.windows.map(parseWindow) },
      facts: () => ({
        capturedThrough: this.#completeThrough(),
        compare: this.#spool.serverSeen.asksToCompare,
        epochReason: this.#spool.snapshot()?.epochReason ?? null,
        report: this.#report.report(this.#asked?.sync ?? null),
      }),
      through: () => this.#completeThrough(),
      events: {
        onNewEpoch: reason =>
          this.#capture.beginNewEpoch(`the head office is ${reason === 'behind' ? 'behind' : 'elsewhere'}`),
        onStopped: error => {
          if (error.code !== 'EPOCH_SUPERSEDED') {
            this.#spoolFailed(error);
            return;
          }
          this.#logger.error({ err: error }, error.message);
          this.#capture.lookAgain();
        },
        onIdle: () => this.#capture.onForwarderIdle(),
        onAnswer: answer => {
          // The first one may be to a hello from before.
          if (this.#asked !== null && (this.#asked.answers += 1) >= 2) this.#asked = null;
          this.#capture.snapshots.serve(answer.requests);
          this.#capture.verifications.serve(answer.requests);
          // Of all tables, and begun from now on: that is what was to be asked for.
          const asksForAll = answer.requests.some(({ kind, tables }) => kind === 'verify' && tables === null);
          if (asksForAll) this.#spool.serverSeen.askedFor();
        },
      },
      log: logger,
      now: () => Date.now(),
      random: () => Math.random(),
    });
    this.#report = new SelfReport({
      config,
      tableFilter,
      version,
      spool: this.#spool,
      capture: this.#capture,
      forwarder: this.#forwarder,
      tally: this.#counters,
      traffic: this.#traffic,
    });
  }

  #spoolFailed(error: TributaryError): void {
    if (error.code === 'SPOOL_CORRUPT') this.#giveUpEpoch();
    this.#failed.resolve(error);
  }

  /**
   * A stored batch does not match its digest, so nothing after it can be sent. The process ends with an error, and the
   * next one begins an epoch with a snapshot.
   */
  #giveUpEpoch(): void {
    try {
      this.#spool.giveUp();
    } catch (error) {
      // The file itself is damaged. The error that ends the process says so.
      this.#logger.error({ err: error }, 'The spool cannot begin a new epoch.');
    }
  }

  /** Somebody waits for changes, however fresh they are. */
  #isAwaited(): boolean {
    return this.#forwarder.isAwaited || this.#spool.snapshot()?.finished === false;
  }

  /** What the head office will be complete as of. One that knows nothing of set-aside tables must not go beyond them. */
  #completeThrough(): string | null {
    const through = this.#capture.status().capturedThrough;
    const { lastAnswer } = this.#forwarder.status();
    if (through === null || lastAnswer?.capabilities?.includes(KNOWS_SET_ASIDE) === true) return through;
    const { setAside = [] } = this.#spool.snapshot() ?? {};
    return setAside.reduce((bound, { since }) => earlier(bound, since), through);
  }

  /** Works until aborted. @throws TributaryError what ends the process */
  async run(signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    this.#forwarder.start();
    const settling = new MemoryRelease({
      now: () => performance.now(),
      cpuMs: processorMs,
      residentBytes: () => process.memoryUsage.rss(),
      release: releaseHeap,
    });
    const sampling = setInterval(() => {
      this.#report.sample();
      this.#traffic.note();
      settling.look();
    }, SAMPLE_MS).unref();
    const fault = Promise.race([this.#failed.promise, this.#spool.failed]).then(error => {
      this.#isDiskSound = false;
      throw error;
    });
    const collapsing = this.#collapse?.run(both) ?? Promise.resolve();
    collapsing.catch((error: unknown) => {
      const known = error instanceof TributaryError ? error : new TributaryError('INTERNAL', describeError(error));
      this.#spoolFailed(known);
    });
    try {
      await Promise.race([this.#capture.run(both), fault]);
    } finally {
      clearInterval(sampling);
      stop.abort();
      const late = new Promise(resolve => setTimeout(resolve, STOP_WITHIN_MS).unref());
      await Promise.race([this.#forwarder.stop(), late]);
      await Promise.race([collapsing.catch(() => undefined), late]);
      // After a fault of the disk nothing there is touched any more.
      if (this.#isDiskSound) {
        this.#traffic.note();
        this.#traffic.save();
      }
      this.#spool.close();
    }
  }

  /**
   * Opens the link until the spool is empty.
   * @param by who asks, as the head office's events name it
   * @param timeoutMs how long to wait without progress; null: for ever
   * @throws TributaryError SYNC_STALLED, EPOCH_SUPERSEDED, …
   */
  async sync(
    by: string,
    onProgress: (status: SyncStatus) => void,
    { signal, timeoutMs = null }: { readonly signal?: AbortSignal; readonly timeoutMs?: number | null } = {},
  ): Promise<void> {
    const startedAt = new Date().toISOString();
    this.#asked = { sync: { id: randomUUID(), at: startedAt, by: by.slice(0, MAX_ASKER) }, answers: 0 };
    // Otherwise an empty spool would mean that nothing is left to send.
    this.#capture.closeBatch();
    const before = this.#spool.stream();
    const note = (state: SyncStatus['state'], error: StatusError | null): void => {
      const stream = this.#spool.stream();
      const waiting = stream.head.seq - stream.receivedSeq;
      const doneBatches = Math.max(0, stream.receivedSeq - before.receivedSeq);
      this.#report.sample();
      const { bytesPerSecond } = this.#report;
      const { waitingBytes } = this.#spool.usage();
      this.#sync = {
        state,
        startedAt,
        totalBatches: doneBatches + waiting,
        doneBatches,
        waitingBytes,
        bytesPerSecond,
        secondsLeft: state === 'running' ? secondsLeft(waitingBytes, bytesPerSecond) : null,
        error,
      };
      onProgress(this.#sync);
    };
    note('running', null);
    try {
      await this.#forwarder.sync(() => note('running', null), { signal, timeoutMs });
      note('done', null);
    } catch (error) {
      note('failed', statusError(error, new Date().toISOString()));
      throw error;
    }
  }

  startSync(by: string): void {
    if (this.#sync?.state === 'running') return;
    this.sync(by, () => undefined).catch((error: unknown) => this.#logger.warn({ err: error }, 'The sync failed.'));
  }

  requestSnapshot(tables: readonly QueuedTable[]): void {
    this.#capture.snapshots.take(tables);
  }

  /**
   * Ready: capture reads the binlog, and a head office that can be reached takes what is sent. A branch that is offline
   * is ready, because the spool holds what it captures.
   */
  readiness(): Readiness {
    const { state, error } = this.#capture.status();
    const obstacle = this.#report.obstacle();
    const reasons: string[] = [];
    if (state !== 'streaming') {
      reasons.push(`Capture is ${stateOf({ state, error })}${error === null ? '.' : `: ${describeError(error)}`}`);
    }
    if (obstacle !== null) reasons.push(describeError(obstacle));
    return { ready: reasons.length === 0, reasons };
  }

  /** What should move and does not; null: everything moves. States that wait for something outside may last for ever. */
  stalled(): string | null {
    const { state, events } = this.#capture.status();
    const still = this.#captureClock.standstillMs(`${state} ${events}`);
    if (still > STALLED_AFTER_MS && ['connecting', 'resuming', 'streaming'].includes(state)) {
      return `Capture has been ${state} without an event for ${formatDuration(still)}.`;
    }
    const forward = this.#forwarder.status();
    const waiting = this.#forwardClock.standstillMs(`${forward.state} ${forward.since}`);
    if (waiting > STALLED_AFTER_MS && forward.state === 'connecting') {
      return `The forwarder has been connecting for ${formatDuration(waiting)}.`;
    }
    return null;
  }

  /** One line for `systemctl status`. */
  summary(): string {
    const capture = this.#capture.status();
    const { waitingBatches } = this.#spool.usage();
    const { state, connected, windowOpen } = this.#forwarder.status();
    const isStarting = state === 'stopped' || state === 'connecting';
    const link = connected ? 'up' : isStarting ? 'connecting' : windowOpen ? 'down' : 'closed';
    const linkError = this.#report.linkError();
    return [
      `${stateOf(capture)}, ${waitingBatches} batches wait, link ${link}`,
      ...(capture.error === null ? [] : [describeError(capture.error)]),
      ...(linkError === null ? [] : [`${linkError.code}: ${linkError.message} — ${linkError.hint}`]),
    ].join('; ');
  }

  status(): AgentStatus {
    return this.#report.status(this.#sync);
  }

  /** The text of `/metrics`, as of now. */
  async metrics(): Promise<string> {
    this.#gauges.update(
      this.status(),
      {
        ...this.#forwarder.status().counters,
        binlogBytes: this.#counters.binlogBytes,
        binlogConnections: this.#counters.binlogConnections,
        collapsedChanges: this.#spool.collapsed.changes,
        collapsedBytes: this.#spool.collapsed.bytes,
      },
      Date.now(),
    );
    return this.#registry.metrics();
  }
}

/** What the forwarder's connections need. The password is read at each of them. */
function brokerConnection({ broker, branch, link }: AgentConfig, meter: WireMeter) {
  return {
    ...brokerAccess(broker),
    branch,
    meter,
    heartbeatSeconds: link.heartbeatSeconds,
    get password() {
      return broker.password.reveal();
    },
  };
}

/** What zongji's own connections need. The password is read at each of them. */
function binlogConnection({ source: { host, port, user, password, tls } }: AgentConfig) {
  const ssl = mysqlSslOptions(tls, host);
  return {
    host,
    port,
    user,
    get password() {
      return password.reveal();
    },
    ...(ssl === undefined ? {} : { ssl }),
  };
}
