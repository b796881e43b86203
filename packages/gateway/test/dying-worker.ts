/** A worker whose thread ends with an error a second after it began: by then the gateway runs. */
import { openPort } from 'espalier';
import { runWorker } from 'espalier/run-worker';

const end = performance.now() + 1000;
runWorker((ticket, context) => {
  const port = openPort(ticket, context);
  if (ticket.kind !== 'mock') return port;
  const poll = port.poll.bind(port);
  port.poll = (burst) => {
    if (performance.now() > end) throw new Error('told to die');
    return poll(burst);
  };
  return port;
});
