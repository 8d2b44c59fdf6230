ALTER TABLE change_key DROP PRIMARY KEY, ADD PRIMARY KEY (id, code);
INSERT INTO change_key VALUES (1, 'b', 3);
