/** Branch ids, as they appear in names of queues, users and files. */
export const BRANCH_ID = /^[a-z0-9][a-z0-9-]{0,62}$/;
