CREATE TABLE multi_table_a (id INT PRIMARY KEY, v INT);
CREATE TABLE multi_table_b (id INT PRIMARY KEY, a INT, v INT);
INSERT INTO multi_table_a VALUES (1, 1), (2, 2), (3, 3), (4, 4);
INSERT INTO multi_table_b VALUES (10, 1, 1), (11, 1, 2), (12, 2, 3), (13, 9, 4);
