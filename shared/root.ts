/**
 * Where the files are that a program reads by path: page files and package.json. In a checkout that is the project's
 * folder; in a package it is the folder under /usr/lib, and the bundle lies one folder below it, as deep as this file.
 */
import { resolve } from 'node:path';

export const ROOT = resolve(import.meta.dirname, '..');
