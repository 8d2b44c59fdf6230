CREATE TABLE nopad_key_chunks (k VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_nopad_ci PRIMARY KEY, v INT);
-- The first chunk of a thousand rows ends between two keys that differ by a blank at their end.
INSERT INTO nopad_key_chunks WITH RECURSIVE s AS (SELECT 0 AS i UNION ALL SELECT i + 1 FROM s WHERE i < 700) SELECT CONCAT('k', LPAD(i, 4, '0')), i FROM s;
INSERT INTO nopad_key_chunks SELECT CONCAT(k, ' '), v + 10000 FROM nopad_key_chunks;
INSERT INTO nopad_key_chunks VALUES ('a', -1);
CREATE TABLE nopad_key_sets (a CHAR(6) CHARACTER SET latin1 COLLATE latin1_swedish_nopad_ci, b VARCHAR(6) CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_nopad_as_cs, c VARCHAR(6) CHARACTER SET sjis COLLATE sjis_nopad_bin, v INT, PRIMARY KEY (a, b, c));
INSERT INTO nopad_key_sets VALUES ('é', 'x', '表', 1), ('é', 'x ', '表', 2), ('é', 'x', '表 ', 3), ('É', 'X', '表', 4);
CREATE TABLE nopad_key_unique (k VARBINARY(5), t VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL UNIQUE, v INT);
INSERT INTO nopad_key_unique VALUES ('a', 'a', 1), ('a ', 'a ', 2), ('', '', 3), (' ', ' ', 4);
