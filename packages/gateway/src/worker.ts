/** Thread entry of a datapath worker with the lowers of this project. */
import { runWorker } from './run-worker.ts';

runWorker();
