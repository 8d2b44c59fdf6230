import t from 'tap';
import { StateMachine } from '../../../agent/state-machine.ts';

void t.test('a state moves along its transitions only', t => {
  const door = new StateMachine<'open' | 'shut' | 'locked'>(
    'The door',
    { open: ['shut'], shut: ['open', 'locked'], locked: ['shut'] },
    'open',
  );
  door.enter('shut');
  door.enter('locked');
  t.throws(() => door.enter('open'), { code: 'INTERNAL', message: 'The door must not go from state locked to open.' });
  t.equal(door.state, 'locked', 'a wrong transition changes nothing');
  t.throws(() => door.enter('locked'), { code: 'INTERNAL' }, 'nor may a state follow itself, unless it is listed');
  t.end();
});
