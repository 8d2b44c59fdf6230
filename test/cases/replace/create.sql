CREATE TABLE replace_ (id INT PRIMARY KEY, code VARCHAR(10) UNIQUE, n INT);
INSERT INTO replace_ VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3);
