SET SESSION sql_generate_invisible_primary_key = ON;
CREATE TABLE hidden_key (a INT, b VARCHAR(20));
CREATE TABLE hidden_key_index (id INT PRIMARY KEY, a INT, b VARCHAR(20), INDEX ((a + 1)), UNIQUE INDEX ((LOWER(b)), a));
CREATE TABLE hidden_key_column (id INT INVISIBLE PRIMARY KEY, g INT AS (id * 2) VIRTUAL INVISIBLE, v VARCHAR(20));
INSERT INTO hidden_key VALUES (1, 'a'), (1, 'a'), (2, 'b');
INSERT INTO hidden_key_index VALUES (1, 1, 'A'), (2, 2, NULL);
INSERT INTO hidden_key_column (id, v) VALUES (1, 'a'), (2, 'b');
