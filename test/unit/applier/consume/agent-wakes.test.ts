import t from 'tap';
import { AgentWakes, WAKE_EVERY_MS } from '../../../../applier/consume/agent-wakes.ts';

await t.test('a wake that is too early is deferred until it may be, unless a hello is answered', t => {
  const wakes = new AgentWakes();
  t.equal(wakes.ask(100), true, 'an unreadable batch');
  t.equal(wakes.takeDue(100 + WAKE_EVERY_MS), false, 'nothing is due');
  t.equal(wakes.ask(200), false, 'too early');
  t.equal(wakes.takeDue(300), false, 'still');
  t.equal(wakes.takeDue(100 + WAKE_EVERY_MS), true);
  t.equal(wakes.takeDue(200 + 2 * WAKE_EVERY_MS), false, 'once');
  const later = 100 + 3 * WAKE_EVERY_MS;
  t.equal(wakes.ask(later), true);
  t.equal(wakes.ask(later + 1), false);
  wakes.answering();
  t.equal(wakes.takeDue(later + WAKE_EVERY_MS), false, 'it has said hello');
  t.equal(wakes.ask(later + WAKE_EVERY_MS), true);
  wakes.answering();
  t.equal(wakes.ask(later + WAKE_EVERY_MS + 1), false, 'another batch after the answer');
  t.equal(wakes.takeDue(later + 2 * WAKE_EVERY_MS), true);
  t.end();
});

await t.test('an applier that is not served wakes an agent once for the same requests', t => {
  const wakes = new AgentWakes();
  const turn = (at: number): number => 1 + at * WAKE_EVERY_MS;
  t.equal(wakes.askFor(['a', 'b'], false, turn(0)), true);
  t.equal(wakes.askFor(['b', 'a'], false, turn(1)), false, 'another one has answered, or will');
  t.equal(wakes.askFor(['a', 'c'], false, turn(1)), true, 'another request');
  t.equal(wakes.askFor(['a', 'c'], true, turn(2)), true, 'one that is served knows what was answered');
  t.equal(wakes.askFor(['a', 'c'], true, turn(2) + 1), false);
  t.equal(wakes.takeDue(turn(3)), false, 'it asks again by itself');
  t.equal(wakes.askFor(['a', 'c'], true, turn(3)), true);
  t.end();
});
