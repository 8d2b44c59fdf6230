CREATE TABLE keys_int (id INT PRIMARY KEY, v VARCHAR(20));
CREATE TABLE keys_text (name VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, v INT);
CREATE TABLE keys_pair (a INT, b VARCHAR(10), v INT, PRIMARY KEY (b, a));
INSERT INTO keys_int VALUES (1, 'one'), (2, 'two'), (3, 'three'), (4, 'four');
INSERT INTO keys_text VALUES ('abc', 1), ('trail', 2), ('Ärger', 3), ('swap', 4);
INSERT INTO keys_pair VALUES (1, 'x', 1), (1, 'y', 2), (2, 'x', 3);
