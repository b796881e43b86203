/**
 * One process at a time, by a file that names it. The lock is taken by link(2), so that it is there whole or not at all. A
 * process that was killed leaves its lock; nobody takes that away to make room, for two might at once, and the second would
 * take away the first one's. Instead:
 *
 *     FILE           the lock, of a process that is dead
 *     FILE.<print>   who took it over, by the print of the lock's text: there is one such name, and one link to it succeeds
 *
 * Whoever took over while being killed in turn is taken over alike. The last of the line is the owner; it renames its lock
 * over FILE and then clears the line. So who has linked at the end of a line that is no more sees that FILE is another.
 *
 * A process of another PID namespace (another container) cannot be asked whether it lives: its lock stands until somebody who
 * knows removes it. The file is for processes of one machine.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { XfrmError } from '@espalier/xfrm';
import { systemError } from './system-error.ts';

const LOCK = /^(\d{1,10})(?: (\S+) ([0-9a-f]{32}))?\s*$/;
/** Field 22 of /proc/PID/stat, behind the name in brackets that is field 2. */
const START_FIELD = 22 - 3;
/** Others may come and go meanwhile; that often they do not. */
const TRIES = 100;

/** Locks of this process by their text, for where processes have no known birth. */
const held = new Set<string>();

/** Takes a lock and returns its text, for `unlock`. Throws XfrmError BUSY (somebody who lives has it, or nobody knows who), SYSTEM. */
export function lock(file: string): string {
  const token = randomBytes(16).toString('hex');
  const text = `${process.pid} ${[birthOf(process.pid) ?? '-', ...namespace()].join('/')} ${token}`;
  const own = `${file}.${token}`;
  try {
    write(own, text);
    for (let i = 0; i < TRIES; i++)
      if (take(file, own)) {
        held.add(text);
        return text;
      }
    throw new XfrmError({ code: 'BUSY', what: `others take and leave ${file} all the time` });
  } catch (error) {
    throw error instanceof XfrmError ? error : systemError(error, `cannot lock ${file}`);
  } finally {
    rmSync(own, { force: true });
  }
}

/** Gives a lock back; one that cannot be removed ends with this process. */
export function unlock(file: string, text: string): void {
  held.delete(text);
  try {
    if (read(file) === text) rmSync(file, { force: true });
  } catch {
    // A directory that is gone, or read-only by now.
  }
}

/** Goes down the line to its end. False when the line changed meanwhile. Throws XfrmError BUSY. */
function take(file: string, own: string): boolean {
  const line: string[] = [];
  let first: string | null = null;
  for (let at = file; !link(own, at); ) {
    const text = read(at);
    if (text === null) return false;
    demandDead(at, text);
    first ??= text;
    at = `${file}.${createHash('sha256').update(text).digest('hex').slice(0, 32)}`;
    line.push(at);
  }
  if (first === null) return true;
  if (read(file) !== first) {
    rmSync(line.at(-1)!, { force: true });
    return false;
  }
  try {
    renameSync(own, file);
  } catch (error) {
    rmSync(line.at(-1)!, { force: true });
    throw error;
  }
  for (const one of line) rmSync(one, { force: true });
  return true;
}

function demandDead(file: string, text: string): void {
  const [, pid, birth, token] = LOCK.exec(text) ?? [];
  if (pid === undefined)
    throw new XfrmError({ code: 'BUSY', what: `${file} does not say which process has it; remove it if none does` });
  if (birth !== undefined && foreign(birth))
    throw new XfrmError({
      code: 'BUSY',
      what: `${file} is of a process of another PID namespace, ${pid} there: nobody here sees whether it lives; remove the file if not`,
    });
  const lives = token === undefined ? livesByPid(Number(pid)) : livesSince(Number(pid), birth!, text);
  if (lives) throw new XfrmError({ code: 'BUSY', what: `process ${pid} has ${file}` });
}

/** A process of that number may be another by now; one of its birth is not. */
function livesSince(pid: number, birth: string, text: string): boolean {
  const now = birthOf(pid);
  if (now !== null && birth !== '-') return now === birth.split('/', 2).join('/');
  return pid === process.pid ? held.has(text) : exists(pid);
}

/** A lock that gives no birth is not one of this process. */
function livesByPid(pid: number): boolean {
  return pid !== process.pid && exists(pid);
}

function exists(pid: number): boolean {
  if (pid < 1) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** Boot of the machine and time since then, in clock ticks (proc_pid_stat(5)); null where that is not to be known. */
function birthOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const start = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[START_FIELD];
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}/${start}`;
  } catch {
    return null;
  }
}

/** The PID namespace of this process (pid_namespaces(7)); nothing where that is not to be known. */
function namespace(): string[] {
  try {
    return [readlinkSync('/proc/self/ns/pid')];
  } catch {
    return [];
  }
}

/** Of this boot, so that it may live, and of a namespace that is not this process's. */
function foreign(birth: string): boolean {
  const [boot, , there] = birth.split('/');
  const [here] = namespace();
  return there !== undefined && here !== undefined && there !== here && birthOf(process.pid)?.split('/')[0] === boot;
}

/** Durable: a lock that says nothing would keep everybody out. */
function write(file: string, text: string): void {
  const fd = openSync(file, 'wx', 0o600);
  try {
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function link(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function read(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
