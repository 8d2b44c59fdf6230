/** What is given to JSON.parse while something runs: the measure of how long a text from outside can hold the only thread. */

/** The texts that were parsed until `work` has ended; what it throws is another test's. */
export async function textsParsedBy(work: () => unknown): Promise<readonly string[]> {
  const { parse } = JSON;
  const texts: string[] = [];
  JSON.parse = (text: string, ...rest: []): unknown => {
    texts.push(text);
    return parse(text, ...rest) as unknown;
  };
  try {
    await work();
  } catch {
    // See above.
  } finally {
    JSON.parse = parse;
  }
  return texts;
}
