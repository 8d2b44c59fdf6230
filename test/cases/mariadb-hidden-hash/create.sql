CREATE TABLE mariadb_hidden_hash (id INT PRIMARY KEY, url TEXT, other VARCHAR(2000), n INT, UNIQUE (url), UNIQUE (other) USING HASH);
CREATE TABLE mariadb_hidden_hash_no_key (url TEXT NOT NULL, n INT, UNIQUE (url));
CREATE TABLE mariadb_hidden_hash_own (id INT PRIMARY KEY, DB_ROW_HASH_1 BIGINT, url TEXT, UNIQUE (url));
INSERT INTO mariadb_hidden_hash VALUES (1, 'a', 'b', 1), (2, NULL, 'c', 2);
INSERT INTO mariadb_hidden_hash_no_key VALUES ('a', 1), ('b', 2);
INSERT INTO mariadb_hidden_hash_own VALUES (1, 10, 'a'), (2, 20, 'b');
