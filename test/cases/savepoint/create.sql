CREATE TABLE savepoint_ (id INT PRIMARY KEY, v VARCHAR(20));
INSERT INTO savepoint_ VALUES (1, 'kept');
