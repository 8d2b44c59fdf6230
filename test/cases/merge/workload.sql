CREATE TABLE merge_all (id INT PRIMARY KEY) ENGINE /* = */ MERGE UNION = (merge_a);
