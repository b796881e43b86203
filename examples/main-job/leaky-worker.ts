/**
 * A worker whose lowers let plaintext out, to see that the observer sees it: every 16th packet leaves with its ESP header in
 * place and its payload unsealed, and every other one of those does not even claim to be ESP.
 */
import { Row, RowState } from '@espalier/wire';
import type { Port, PortContext } from '@espalier/xfrm';
import { openPort } from 'espalier';
import { runWorker } from 'espalier/run-worker';

const EVERY = 16;
const IP_IN_IP = 4;
/** Protocol field of an IPv4 header. */
const PROTOCOL = 9;

function leak(port: Port, { slab }: PortContext): Port {
  const xmit = port.xmit.bind(port);
  let seen = 0;
  port.xmit = (burst) => {
    for (let i = 0; i < burst.length; i++) {
      const r = burst.list[i]! * Row.WORDS;
      if (slab.rows[r + Row.STATE] !== RowState.TO_SEAL || slab.rows[r + Row.FATE] !== 0 || ++seen % EVERY !== 0)
        continue;
      slab.rows[r + Row.STATE] = RowState.CLEAR;
      if (seen % (2 * EVERY) === 0) slab.bytes[slab.rows[r + Row.L3]! + PROTOCOL] = IP_IN_IP;
    }
    return xmit(burst);
  };
  return port;
}

// The inside has no lower index.
runWorker((ticket, context) => {
  const port = openPort(ticket, context);
  return ticket.index < 0 ? port : leak(port, context);
});
