-- What a BLACKHOLE table logged is gone with the engine.
-- @only mysql
CREATE TABLE rebuild_blackhole (id INT PRIMARY KEY) ENGINE /* x */ BLACKHOLE;
INSERT INTO rebuild_blackhole VALUES (1), (2);
ALTER TABLE rebuild_blackhole ENGINE /* x */ InnoDB;
INSERT INTO rebuild_blackhole VALUES (3);
-- @only mariadb
CREATE TABLE rebuild_versioned (id INT PRIMARY KEY, v INT) WITH SYSTEM VERSIONING;
INSERT INTO rebuild_versioned VALUES (1, 1), (2, 2);
UPDATE rebuild_versioned SET v = 5 WHERE id = 1;
DELETE FROM rebuild_versioned WHERE id = 2;
ALTER TABLE rebuild_versioned DROP SYSTEM VERSIONING;
INSERT INTO rebuild_versioned VALUES (3, 3);
ALTER TABLE rebuild ADD SYSTEM VERSIONING;
UPDATE rebuild SET v = 5 WHERE id = 1;
DELETE FROM rebuild WHERE id = 2;
ALTER TABLE rebuild DROP SYSTEM VERSIONING;
-- @only both
ALTER TABLE rebuild ENGINE = InnoDB;
INSERT INTO rebuild VALUES (9, 9);
