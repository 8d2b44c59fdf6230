/** Pictures of the demo's pages for README and documents: `make screenshots`. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { findPrograms } from '../rig/install/programs.ts';

const WIDTH = 1200;
const HEIGHT = 640;
const SETTLE_MS = 1_500;

export interface PictureOf {
  /** Without `.png`. */
  readonly name: string;
  readonly url: string;
  /** What must be there first. */
  readonly ready: string;
}

/** Takes each picture, and says which file it made. */
export async function takePictures(
  pictures: readonly PictureOf[],
  folder: string,
  say: (line: string) => void,
): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const programs = await findPrograms('chromium', say);
  const browser = await chromium.launch({
    executablePath: programs.program('chromium'),
    args: ['--no-sandbox', '--disable-gpu'],
    env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', ...programs.environment },
  });
  try {
    for (const { name, url, ready } of pictures) {
      const page = await browser.newPage({ viewport: { width: WIDTH, height: HEIGHT } });
      await page.goto(url);
      await page.waitForSelector(ready);
      await page.waitForTimeout(SETTLE_MS);
      const file = join(folder, `${name}.png`);
      const bottom = Number(
        await page.evaluate(`Math.ceil(document.querySelector('.page').getBoundingClientRect().bottom)`),
      );
      await page.screenshot({ path: file, clip: { x: 0, y: 0, width: WIDTH, height: Math.min(HEIGHT, bottom) } });
      await page.close();
      say(`wrote ${file}`);
    }
  } finally {
    await browser.close();
  }
}
