/** A worker whose port of lower 1 never completes what was posted on it, until it is closed. */
import { openPort } from 'espalier';
import { runWorker } from 'espalier/run-worker';

runWorker((ticket, context) => {
  const port = openPort(ticket, context);
  if (ticket.index === 1) port.reap = () => 0;
  return port;
});
