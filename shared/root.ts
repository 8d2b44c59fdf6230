/**
 * The directory of the files that a program reads by path: page files and package.json. In a checkout this is the
 * project's directory. In a package it is the one under /usr/lib; the bundle is one level below it, as deep as this file.
 */
import { resolve } from 'node:path';

export const ROOT = resolve(import.meta.dirname, '..');
