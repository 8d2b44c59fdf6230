import t from 'tap';
import {
  isDefinitionFault,
  isRowFault,
  isRowWarning,
  isTableChange,
  targetError,
} from '../../../../applier/apply/target-error.ts';
import { asApplyError, haltReason, judgeFault } from '../../../../applier/transaction/fault-policy.ts';
import { TributaryError } from '../../../../shared/errors.ts';

const said = (errno: number, sqlState = 'HY000'): Error =>
  Object.assign(new Error(`the server says ${errno}`), { errno, code: 'ER_X', sqlState });

/** By number, as performance_schema.events_errors_summary_global_by_error names them. */
const NEVER_OF_A_ROW: readonly (readonly [errno: number, name: string, sqlState?: string])[] = [
  [3, 'EE_WRITE'],
  [20, 'EE_DISK_FULL'],
  [1021, 'ER_DISK_FULL'],
  [1026, 'ER_ERROR_ON_WRITE'],
  [1030, 'ER_GET_ERRNO'],
  [1037, 'ER_OUTOFMEMORY', 'HY001'],
  [1040, 'ER_CON_COUNT_ERROR', '08004'],
  [1044, 'ER_DBACCESS_DENIED_ERROR', '42000'],
  [1053, 'ER_SERVER_SHUTDOWN', '08S01'],
  [1064, 'ER_PARSE_ERROR', '42000'],
  [1114, 'ER_RECORD_FILE_FULL'],
  [1142, 'ER_TABLEACCESS_DENIED_ERROR', '42000'],
  [1146, 'ER_NO_SUCH_TABLE', '42S02'],
  [1180, 'ER_ERROR_DURING_COMMIT'],
  [1197, 'ER_TRANS_CACHE_FULL'],
  [1203, 'ER_TOO_MANY_USER_CONNECTIONS', '42000'],
  [1205, 'ER_LOCK_WAIT_TIMEOUT'],
  [1206, 'ER_LOCK_TABLE_FULL'],
  [1213, 'ER_LOCK_DEADLOCK', '40001'],
  [1290, 'ER_OPTION_PREVENTS_STATEMENT'],
  [1317, 'ER_QUERY_INTERRUPTED', '70100'],
  [1364, 'ER_NO_DEFAULT_FOR_FIELD'],
  [1534, 'ER_BINLOG_ROW_LOGGING_FAILED'],
  [1598, 'ER_BINLOG_LOGGING_IMPOSSIBLE'],
  [1705, 'ER_STMT_CACHE_FULL'],
  [1792, 'ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION', '25006'],
  [1836, 'ER_READ_ONLY_MODE'],
  [3024, 'ER_QUERY_TIMEOUT'],
  [3098, 'ER_BEFORE_DML_VALIDATION_ERROR'],
  [3100, 'ER_RUN_HOOK_ERROR'],
  [3101, 'ER_TRANSACTION_ROLLBACK_DURING_COMMIT', '40000'],
  [3796, 'ER_GRP_TRX_CONSISTENCY_NOT_ALLOWED'],
  [3797, 'ER_GRP_TRX_CONSISTENCY_BEFORE'],
  [3999, 'an error that nobody has thought of'],
];

void t.test('what is a server’s trouble is no row’s, and is tried again with a cause and a cure', t => {
  for (const [errno, name, sqlState] of NEVER_OF_A_ROW) {
    const error = said(errno, sqlState);
    t.notOk(isRowFault(error), name);
    t.not(judgeFault(error), 'halt', name);
    t.not(judgeFault(targetError(error, 'Writing to a.b')), 'halt', name);
    const fault = targetError(error, 'Writing to a.b');
    t.match(fault, { code: /^TARGET_/, retryable: Boolean }, name);
    t.match(fault.message, `the server says ${errno}`);
    t.ok(fault.hint.length > 20, name);
  }
  for (const errno of [1205, 1213, 3101, 1146]) t.equal(judgeFault(said(errno)), 'retry', String(errno));
  for (const code of ['ECONNREFUSED', 'PROTOCOL_CONNECTION_LOST', 'ETIMEDOUT']) {
    t.equal(judgeFault(Object.assign(new Error('x'), { errno: -111, code })), 'wait', code);
  }
  t.end();
});

void t.test('a column without a value is a trigger’s matter: definitions are held while rows are written', t => {
  const fault = targetError(said(1364), 'Writing to a.b');
  t.match(fault, { code: 'TARGET_FAILED', hint: /trigger/ });
  t.notOk(isTableChange(fault));
  t.equal(judgeFault(fault), 'wait');
  t.end();
});

void t.test('what a row can cause halts the branch with the row', t => {
  const rows: readonly (readonly [errno: number, sqlState: string])[] = [
    [1048, '23000'],
    [1062, '23000'],
    [1118, '42000'],
    [1153, '08S01'],
    [1264, '22003'],
    [1265, '01000'],
    [1292, '22007'],
    [1301, 'HY000'],
    [1366, 'HY000'],
    [1406, '22001'],
    [1416, '22003'],
    [1452, '23000'],
    [1526, 'HY000'],
    [1644, '45000'],
    [3140, '22032'],
    [3643, 'HY000'],
    [3819, 'HY000'],
    [31_000, '45001'],
  ];
  for (const [errno, sqlState] of rows) {
    t.ok(isRowFault(said(errno, sqlState)), String(errno));
    t.match(haltReason(said(errno, sqlState)), { code: 'BATCH_REFUSED' });
    t.equal(judgeFault(said(errno, sqlState)), 'halt');
  }
  for (const errno of [1264, 1265, 1292, 1366, 1406]) t.ok(isRowWarning(errno));
  for (const errno of [1287, 1592, 1681, 3170]) t.notOk(isRowWarning(errno), 'a warning that is none of the rows');
  t.end();
});

void t.test('a definition is blamed only for what a definition can cause', t => {
  for (const [errno, name, sqlState] of NEVER_OF_A_ROW) {
    if (errno !== 1064) t.notOk(isDefinitionFault(said(errno, sqlState)), name);
  }
  for (const [errno, sqlState] of [
    [1064, '42000'],
    [1071, '42000'],
    [1117, 'HY000'],
    [1118, '42000'],
    [1265, '22001'],
    [1846, '0A000'],
  ] as const) {
    t.ok(isDefinitionFault(said(errno, sqlState)), String(errno));
  }
  t.end();
});

void t.test('a defect of the program is not the database’s', t => {
  t.equal(judgeFault(new TypeError('x is undefined')), 'halt');
  t.match(asApplyError(new TypeError('x is undefined')), { code: 'INTERNAL' });
  const own = new TributaryError('BATCH_INVALID', 'x');
  t.equal(asApplyError(own), own);
  t.end();
});
