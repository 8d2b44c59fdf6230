CREATE TABLE generated_ (id INT PRIMARY KEY, a INT, b INT);
INSERT INTO generated_ VALUES (1, 1, 2), (2, 3, 4);
