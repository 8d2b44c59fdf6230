/** What a fault of chaos is given, and what it is. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Chance } from './chance.ts';
import type { Copy, Stage, StageBranch } from './stage.ts';

/** What earlier rounds have left for later ones. */
export interface Memory {
  readonly dumps: Copy[];
  readonly spools: Map<string, Copy[]>;
  /** Branches whose server has run without a binlog while no agent could see it: to be compared, as the runbook says. */
  readonly unseen: Set<StageBranch>;
}

export interface FaultCall<S extends Stage = Stage> {
  readonly stage: S;
  readonly chance: Chance;
  readonly memory: Memory;
  /** Says what the fault does in particular, for whoever reads the round's line. */
  readonly note: (text: string) => void;
}

type Fault<S extends Stage> = (call: FaultCall<S>) => Promise<void>;

/** By name, each with how often it is drawn. */
export type Faults<S extends Stage = Stage> = Readonly<
  Record<string, { readonly weight: number; readonly run: Fault<S> }>
>;

export const some = ({ stage, chance }: FaultCall): StageBranch => chance.pick(stage.branches);
export const briefly = (chance: Chance): Promise<void> => sleep(chance.between(200, 2_500));
