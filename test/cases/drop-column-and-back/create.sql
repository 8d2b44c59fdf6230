CREATE TABLE drop_column_and_back (id INT PRIMARY KEY, v VARCHAR(20), w INT, x INT);
INSERT INTO drop_column_and_back VALUES (1, 'a', 1, 1), (2, 'b', 2, 2), (3, 'c', 3, 3);
