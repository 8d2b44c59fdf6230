/**
 * Somebody who reads a branch's queue of batches though it is not his: takes the first messages away, or gives them
 * back, in place of the applier, which must not be running meanwhile.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { BrokerAddress } from '../../../deploy/rig/shared-servers.ts';
import { branchNames, connectBroker } from '../../../shared/broker/amqp.ts';

/** For messages that may not be there at all: the caller counts them. */
const DEADLINE_MS = 20_000;

/**
 * Waits for so many messages of the branch, and acknowledges them without doing anything, or gives them back; those at the
 * front that are to be spared are given back in any case.
 * @returns how many there were; fewer than wanted when the queue held fewer
 */
export async function stealBatches(
  broker: BrokerAddress,
  vhost: string,
  branch: string,
  wanted: number,
  end: 'take' | 'give-back',
  spared = 0,
): Promise<number> {
  const { host, port, user, password } = broker;
  const connection = await connectBroker({
    url: `amqp://${user}@${host}:${port}/${vhost}`,
    password,
    purpose: 'thief',
  });
  try {
    const tags: number[] = [];
    const consumer = await connection.openConsumer({
      queue: branchNames(branch).batches,
      prefetch: wanted,
      onMessage: message => tags.push(message.deliveryTag),
    });
    const until = Date.now() + DEADLINE_MS;
    while (tags.length < wanted && Date.now() < until) await sleep(10);
    // Acknowledging makes room for more, which are given back.
    const taken = tags.slice(spared, wanted);
    if (end === 'take') for (const tag of taken) consumer.ack(tag);
    await sleep(20);
    await consumer.close();
    return taken.length;
  } finally {
    await connection.close();
  }
}
