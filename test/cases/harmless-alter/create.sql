CREATE TABLE harmless_alter (id INT PRIMARY KEY, v VARCHAR(20), n INT);
INSERT INTO harmless_alter VALUES (1, 'a', 1), (2, 'b', 2);
