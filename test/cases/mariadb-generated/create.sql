CREATE TABLE mariadb_generated (id INT PRIMARY KEY, a INT, c INT AS (a + 1) PERSISTENT);
CREATE TABLE mariadb_generated_only (a INT AS (1) VIRTUAL, b INT AS (2) PERSISTENT);
INSERT INTO mariadb_generated (id, a) VALUES (1, 1), (2, 2);
INSERT INTO mariadb_generated_only () VALUES (), ();
