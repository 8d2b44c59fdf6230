CREATE TABLE prefix_key_text (t TEXT, v INT, PRIMARY KEY (t(10)));
CREATE TABLE prefix_key_blob (b BLOB, t TEXT, v INT, PRIMARY KEY (b(4), t(3)));
CREATE TABLE prefix_key_varchar (t VARCHAR(2000), v INT, PRIMARY KEY (t(5) DESC));
CREATE TABLE prefix_key_unique (t VARCHAR(30) NOT NULL, v INT, UNIQUE (t(2)));
CREATE TABLE prefix_key_desc (a INT, b VARCHAR(10), c INT, PRIMARY KEY (a DESC, b, c DESC));
INSERT INTO prefix_key_text VALUES ('abcdefghij and more', 1), ('short', 2), ('', 3);
INSERT INTO prefix_key_blob VALUES ('abcd', 'xyz', 1), (x'00', 'xyz', 2), ('abcdefg', 'xYa tail', 3);
INSERT INTO prefix_key_varchar VALUES ('abcdefghij and more', 1), ('short', 2), ('', 3);
INSERT INTO prefix_key_unique VALUES ('abcdefghij and more', 1), ('short', 2), ('', 3);
INSERT INTO prefix_key_desc VALUES (1, 'a', 1), (1, 'a', 2), (1, 'b', 1), (2, 'a', 1), (-1, 'a', 1);
-- More rows than a first chunk, alike in their first 1,024 bytes: a server sorts by no more unless it is told to.
CREATE TABLE prefix_key_alike (t TEXT CHARACTER SET ascii, n INT, PRIMARY KEY (t(1500)));
INSERT INTO prefix_key_alike SELECT CONCAT(REPEAT('x', 1400), SHA2(CONCAT(a.d, b.d, c.d, e.d), 256)), a.d FROM
  (SELECT 1 AS d UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6) a,
  (SELECT 1 AS d UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6) b,
  (SELECT 1 AS d UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6) c,
  (SELECT 1 AS d UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6) e;
