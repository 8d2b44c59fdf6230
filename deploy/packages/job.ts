/** What a format is given to make one package, and what it returns. */
import type { Architecture } from './node.ts';

/** One package to be made. */
export interface Job {
  readonly architecture: Architecture;
  /** The folder of npm's package with Node for it. */
  readonly node: string;
  /** An empty folder, removed afterwards. */
  readonly work: string;
  /** Where the package goes. */
  readonly output: string;
  /** For tests: larger packages, sooner. */
  readonly quick: boolean;
  /** The image that an image stands on. */
  readonly base: string | null;
  readonly report: (line: string) => void;
}

export interface Built {
  /** Its file; of an image the name. */
  readonly name: string;
  /** What the bill of materials beside it is for; absent: it is inside. */
  readonly purl?: string;
  /** Whether the package brings Node. */
  readonly withNode?: boolean;
}
