CREATE TABLE load_data (id INT PRIMARY KEY, name VARCHAR(40), price DECIMAL(8,2));
INSERT INTO load_data VALUES (2, 'there before', 1);
