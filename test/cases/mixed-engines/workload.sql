-- What MyISAM has taken stays when the transaction around it is undone. (MySQL with GTIDs refuses to mix.)
-- @only mariadb
BEGIN;
INSERT INTO mixed_engines_inno VALUES (1, 'undone');
INSERT INTO mixed_engines_isam VALUES (1, 'stays'), (2, 'stays');
UPDATE mixed_engines_isam SET v = 'stays too' WHERE id = 2;
ROLLBACK;
BEGIN;
INSERT INTO mixed_engines_inno VALUES (2, 'kept');
SAVEPOINT a;
INSERT INTO mixed_engines_isam VALUES (3, 'stays');
INSERT INTO mixed_engines_inno VALUES (3, 'undone');
ROLLBACK TO a;
COMMIT;
-- @only both
INSERT INTO mixed_engines_isam VALUES (10, 'stays');
-- @fails
INSERT INTO mixed_engines_isam VALUES (11, 'stays'), (10, 'twice'), (12, 'never');
-- @only mariadb
CREATE TRIGGER mixed_engines_log AFTER INSERT ON mixed_engines_inno FOR EACH ROW INSERT INTO mixed_engines_audit (v) VALUES (NEW.v);
BEGIN;
INSERT INTO mixed_engines_inno VALUES (4, 'undone');
INSERT INTO mixed_engines_isam VALUES (4, 'stays');
ROLLBACK;
BEGIN;
UPDATE mixed_engines_inno i JOIN mixed_engines_isam m SET i.v = 'undone', m.v = 'both' WHERE i.id = 2 AND m.id = 3;
ROLLBACK;
BEGIN;
INSERT INTO mixed_engines_inno VALUES (5, 'undone');
CREATE TEMPORARY TABLE mixed_engines_t (id INT);
INSERT INTO mixed_engines_isam VALUES (5, 'stays');
ROLLBACK;
-- A savepoint that is set again begins anew.
-- @only mariadb
DROP TRIGGER mixed_engines_log;
BEGIN;
INSERT INTO mixed_engines_inno VALUES (20, 'kept');
SAVEPOINT a;
INSERT INTO mixed_engines_inno VALUES (21, 'kept');
SAVEPOINT /* a again */ A;
INSERT INTO mixed_engines_isam VALUES (20, 'stays');
INSERT INTO mixed_engines_inno VALUES (22, 'undone');
ROLLBACK TO a;
COMMIT;
