-- @session one
XA START 'one phase';
INSERT INTO xa_rows VALUES (10, 'one phase');
XA END 'one phase';
XA COMMIT 'one phase' ONE PHASE;
XA START 'committed', 'b', 7;
INSERT INTO xa_rows VALUES (11, 'committed');
UPDATE xa_rows SET v = 'committed', id = 20 WHERE id = 1;
DELETE FROM xa_rows WHERE id = 2;
INSERT INTO xa_other VALUES (1000, REPEAT('x', 20)), (1001, NULL);
XA END 'committed', 'b', 7;
XA PREPARE 'committed', 'b', 7;
-- @session two
INSERT INTO xa_rows VALUES (12, 'in between');
XA START 'undone';
INSERT INTO xa_rows VALUES (13, 'undone');
UPDATE xa_rows SET v = 'undone' WHERE id = 3;
XA END 'undone';
XA PREPARE 'undone';
-- @session three
INSERT INTO xa_rows VALUES (14, 'in between');
-- @restart-agent
XA START 'nothing in it';
SELECT COUNT(*) FROM xa_rows WHERE id = 4;
XA END 'nothing in it';
XA PREPARE 'nothing in it';
-- @session four
INSERT INTO xa_other VALUES (1, 'also');
-- @session one
XA COMMIT 'committed', 'b', 7;
-- @session two
XA ROLLBACK 'undone';
UPDATE xa_rows SET v = 'after' WHERE id IN (3, 11);
-- @session three
XA COMMIT 'nothing in it';
-- The same name again.
XA START 'undone';
UPDATE xa_rows SET v = 'second life' WHERE id = 4;
XA END 'undone';
XA PREPARE 'undone';
-- @restart-agent
XA COMMIT 'undone';
UPDATE xa_rows SET v = CONCAT(v, '.') WHERE id = 4;
INSERT INTO xa_rows VALUES (15, 'last');
