CREATE TABLE temporary_ (id INT PRIMARY KEY, v VARCHAR(20));
CREATE TABLE temporary_hidden (id INT PRIMARY KEY, v VARCHAR(20));
INSERT INTO temporary_ VALUES (1, 'a'), (2, 'b');
INSERT INTO temporary_hidden VALUES (1, 'real');
