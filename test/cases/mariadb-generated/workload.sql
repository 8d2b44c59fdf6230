-- The catalogue is newer than these changes when a branch that was away reads them.
UPDATE mariadb_generated SET a = a + 1;
ALTER TABLE mariadb_generated MODIFY c INT;
UPDATE mariadb_generated SET c = 100 WHERE id = 1;
ALTER TABLE mariadb_generated ADD COLUMN d INT AS (a * 2) VIRTUAL, ADD COLUMN e INT AS (a * 3) PERSISTENT;
UPDATE mariadb_generated SET a = a + 1;
ALTER TABLE mariadb_generated MODIFY e INT, DROP COLUMN d;
UPDATE mariadb_generated SET a = a + 1, e = 5 WHERE id = 2;
INSERT INTO mariadb_generated_only () VALUES ();
DELETE FROM mariadb_generated_only LIMIT 1;
CREATE TABLE mariadb_generated_late (g INT AS (1) VIRTUAL, v INT);
INSERT INTO mariadb_generated_late (v) VALUES (1), (2);
UPDATE mariadb_generated_late SET v = v + 1;
ALTER TABLE mariadb_generated_late DROP COLUMN v;
INSERT INTO mariadb_generated_late () VALUES ();
-- A race of the catalogue and the stream, many times.
CREATE TABLE mariadb_generated_quick (id INT PRIMARY KEY, a INT, c INT AS (a + 1) VIRTUAL);
$$
BEGIN NOT ATOMIC
  FOR i IN 1 .. 15 DO
    INSERT INTO mariadb_generated_quick (id, a) VALUES (i, i);
    UPDATE mariadb_generated_quick SET a = a + 1;
    ALTER TABLE mariadb_generated_quick DROP COLUMN c;
    UPDATE mariadb_generated_quick SET a = a + 1;
    ALTER TABLE mariadb_generated_quick ADD COLUMN c INT AS (a + 1) VIRTUAL;
  END FOR;
END
$$
