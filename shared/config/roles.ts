/** What people may do on a page (shared/process/callers.ts), from the least to the most. */
export const ROLES = ['look', 'sync', 'operate'] as const;
export type Role = (typeof ROLES)[number];
