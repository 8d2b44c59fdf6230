CREATE TABLE drop_create (id INT PRIMARY KEY, v VARCHAR(20), old_ INT);
CREATE TABLE drop_create_gone (id INT PRIMARY KEY);
CREATE TABLE drop_create_gone2 (id INT PRIMARY KEY);
INSERT INTO drop_create VALUES (1, 'old', 1), (2, 'old', 2);
INSERT INTO drop_create_gone VALUES (1);
INSERT INTO drop_create_gone2 VALUES (1);
