INSERT INTO statement_format VALUES (3, 'row');
SET SESSION binlog_format = STATEMENT;
INSERT INTO statement_format VALUES (4, 'statement');
UPDATE statement_format SET v = 'statement' WHERE id = 1;
SET SESSION binlog_format = ROW;
INSERT INTO statement_format VALUES (5, 'row');
