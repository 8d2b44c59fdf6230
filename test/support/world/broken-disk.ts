/**
 * A disk that fails, as a process sees it: a small library before the C library, through which writes or syncs of files
 * in one folder fail with EIO for as long as a file says so, or the next sync alone; and which notes whether the process
 * touches the folder's files after a sync that failed. And what a power cut leaves of SQLite's log: a last frame
 * that is half written, or one that never was, though the disk had called it synced.
 */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

const SOURCE = String.raw`
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char fault(void) {
  const char *file = getenv("BROKEN_DISK_FAULT");
  char kind = 0;
  int saved = errno, fd = file == NULL ? -1 : open(file, O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    if (read(fd, &kind, 1) != 1) kind = 0;
    close(fd);
  }
  errno = saved;
  return kind;
}

static int sync_failed = 0;

/** As the last call before the process ends, if it minds its business. */
static void note_touch(const char *path) {
  char file[4096];
  int fd;
  snprintf(file, sizeof file, "%s.touched", getenv("BROKEN_DISK_FAULT"));
  fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd >= 0) {
    dprintf(fd, "%s\n", path);
    close(fd);
  }
}

static int broken(int fd, char kind) {
  const char *folder = getenv("BROKEN_DISK_FOLDER");
  char link[64], path[4096], wanted;
  ssize_t length;
  if (folder == NULL || fd < 3) return 0;
  wanted = fault();
  if (wanted != kind && !(wanted == 'o' && kind == 's') && !sync_failed) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  if (strncmp(path, folder, strlen(folder)) != 0) return 0;
  if (sync_failed) note_touch(path);
  if (wanted == 0) return 0;
  if (kind == 's') sync_failed = 1;
  if (wanted == 'o') unlink(getenv("BROKEN_DISK_FAULT"));
  errno = EIO;
  return 1;
}

#define WRAP(result, name, kind, parameters, arguments) \
  result name parameters { \
    static result (*real) parameters; \
    if (broken(fd, kind)) return -1; \
    if (real == NULL) *(void **)&real = dlsym(RTLD_NEXT, #name); \
    return real arguments; \
  }

WRAP(ssize_t, write, 'w', (int fd, const void *bytes, size_t count), (fd, bytes, count))
WRAP(ssize_t, pwrite, 'w', (int fd, const void *bytes, size_t count, off_t at), (fd, bytes, count, at))
WRAP(ssize_t, pwrite64, 'w', (int fd, const void *bytes, size_t count, off64_t at), (fd, bytes, count, at))
WRAP(int, fsync, 's', (int fd), (fd))
WRAP(int, fdatasync, 's', (int fd), (fd))
`;

/** `one sync`: the next one fails, those after it succeed, whatever has become of the pages. */
export type DiskFault = 'writes' | 'syncs' | 'one sync';

/** To be built before the process starts that is to have the disk. */
export class BrokenDisk {
  /** For the process whose disk it is. */
  readonly environment: Readonly<Record<string, string>>;
  readonly #faultFile: string;

  /** @returns the disk, whole for now, or why there is none */
  static build(scratch: string, folder: string): BrokenDisk | string {
    const source = join(scratch, 'broken-disk.c');
    const library = join(scratch, 'broken-disk.so');
    writeFileSync(source, SOURCE);
    try {
      execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, source, '-ldl'], { stdio: 'pipe' });
    } catch (error) {
      return `no C compiler here: ${String(error)}`;
    }
    return new BrokenDisk(library, folder, join(scratch, 'broken-disk.fault'));
  }

  private constructor(library: string, folder: string, faultFile: string) {
    this.#faultFile = faultFile;
    rmSync(`${faultFile}.touched`, { force: true });
    this.environment = { LD_PRELOAD: library, BROKEN_DISK_FOLDER: folder, BROKEN_DISK_FAULT: faultFile };
  }

  /** From the next call on. */
  fail(fault: DiskFault): void {
    writeFileSync(this.#faultFile, fault);
  }

  heal(): void {
    rmSync(this.#faultFile, { force: true });
  }

  /** Files that a process has written to or synced after a sync that failed. */
  touchedAfterwards(): readonly string[] {
    const file = `${this.#faultFile}.touched`;
    return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
  }
}

/** Of SQLite's log, https://sqlite.org/fileformat2.html#the_write_ahead_log */
const LOG_HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
const PAGE_SIZE_AT = 8;
const SALTS_AT = 16;
const SALTS_BYTES = 8;

/** The frames of a log that belong together: those of its header's salts. Behind them may stand older ones. */
function framesOf(log: Buffer): { readonly frameBytes: number; readonly end: number } {
  const frameBytes = FRAME_HEADER_BYTES + log.readUInt32BE(PAGE_SIZE_AT);
  const salts = log.subarray(SALTS_AT, SALTS_AT + SALTS_BYTES);
  let end = LOG_HEADER_BYTES;
  while (end + frameBytes <= log.length && log.subarray(end + 8, end + 8 + SALTS_BYTES).equals(salts))
    end += frameBytes;
  return { frameBytes, end };
}

/** As if the power had gone while one more frame was being written: half of it stands there, and old bytes behind. */
export function tearNextFrame(logFile: string): void {
  const log = readFileSync(logFile);
  const { frameBytes, end } = framesOf(log);
  if (end === LOG_HEADER_BYTES) throw new Error('the log holds no frame');
  // The frame before it, so that all but its checksum is plausible.
  write(logFile, end, log.subarray(end - frameBytes, end - Math.floor(frameBytes / 2)));
}

/** As if a disk had called the last frames synced that it then lost: they end in the middle of the last. */
export function loseLastFrame(logFile: string): void {
  const { frameBytes, end } = framesOf(readFileSync(logFile));
  if (end === LOG_HEADER_BYTES) throw new Error('the log holds no frame');
  const handle = openSync(logFile, 'r+');
  ftruncateSync(handle, end - Math.floor(frameBytes / 2));
  closeSync(handle);
}

/** A byte of the last frame's page is another one. */
export function garbleLastFrame(logFile: string): void {
  const log = readFileSync(logFile);
  const { frameBytes, end } = framesOf(log);
  if (end === LOG_HEADER_BYTES) throw new Error('the log holds no frame');
  const place = end - Math.floor(frameBytes / 2);
  write(logFile, place, Buffer.from([(log[place] ?? 0) ^ 0xff]));
}

function write(file: string, at: number, bytes: Buffer): void {
  const handle = openSync(file, 'r+');
  writeSync(handle, bytes, 0, bytes.length, at);
  closeSync(handle);
}
